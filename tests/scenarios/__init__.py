"""The same scenarios through every door: in process, over gRPC, over REST."""
