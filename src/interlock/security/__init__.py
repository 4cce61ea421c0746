"""Who asks and what they may do: keys, tokens, authentication, access, credentials; layers on the Call."""
