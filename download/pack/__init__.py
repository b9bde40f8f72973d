"""Files that were fetched → JPEGs of one form, each picture once, in shards."""
