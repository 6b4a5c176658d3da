"""One step per file: parameters, references and a block in; a record out."""
