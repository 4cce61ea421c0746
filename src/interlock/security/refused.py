"""The one exception of everything here that judges a credential."""


class CredentialRefused(Exception):
    """A credential that does not verify; the text is for the log and never holds any of the credential."""
