"""The error that the user sees without a traceback."""


class InputError(ValueError):
    """Bad config or data; the message names the field, file or line, the value and the way out."""
