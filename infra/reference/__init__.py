"""Files generated from the code: JSON Schemas, the AsyncAPI document, the pages of docs/reference."""
