"""What is new, as it comes: results and episodes that the view has read lately, and the pages that are told of them."""
