"""The types of the OCI specifications: parsing, checking and writing, without any input or output."""
