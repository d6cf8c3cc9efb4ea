"""Tables: what a name says, every format and layout, catalogues."""
