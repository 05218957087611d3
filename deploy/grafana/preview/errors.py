"""What the preview cannot do."""


class QueryError(Exception):
    """A query cannot be made or is refused."""


class PanelError(Exception):
    """The preview cannot draw what a panel asks for."""
