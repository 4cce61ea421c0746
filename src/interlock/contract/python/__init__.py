"""Generated Python: the typed module of a file's services, and the protoc plugin that writes it."""
