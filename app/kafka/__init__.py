"""Everything that speaks to brokers, without Faust: ``client`` (addresses, TLS, SASL), ``admin``, ``topics``,
``permissions``; the bytes of records: ``record_batch`` writes them, ``fetched`` reads them; ``patches`` are the changes
to aiokafka."""
