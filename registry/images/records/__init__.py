"""Records: the changes of a repository on storage, folded into its ``index.json`` and reconciled with the database."""
