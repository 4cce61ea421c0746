"""The cases of the Connect project's conformance suite under their names, each against a real socket."""
