"""What a user did wrong, as opposed to a defect of the library."""


class InputError(ValueError):
    """Input that cannot be used: a flag, a file, a configuration, an argument.

    The message is one line. It names the flag, file or argument, what was given and what
    is legal. The command line prints it and exits with 1; any other exception is a defect
    and keeps its traceback.
    """


class ContractError(InputError, TypeError):
    """A component, such as a task of the user's own, that breaks the contract of its base class.

    The message is one line. It names the component, what it has or returned, and what is expected.
    """
