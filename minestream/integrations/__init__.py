"""Objects that other libraries take: one file a library, which is imported when the file is."""
