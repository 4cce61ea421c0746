"""What keeps calls bounded when neighbours are slow, gone or lying; layers on the Call."""
