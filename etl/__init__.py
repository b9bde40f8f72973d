"""A dump → a store: open and slice dumps, read entity lines, build and read LMDB stores."""
