"""A catalogue as local pages: to browse, search, compare and mark. Needs the extra `gallery`."""
