"""Tables: every format and layout, catalogues and labels."""
