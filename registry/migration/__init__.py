"""Moving a bucket that another registry filled to Stowage. A plan is a value; making it changes nothing."""
