"""The functions a person calls, each a few lines over the rooms; `hubblefork` shows them by name."""
