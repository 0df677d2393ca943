"""How the tables came to be as they are: one module for each step, run by app/store/database.py when it opens one."""
