"""Clients in JavaScript, in Node.js and in a browser, against the served sample app."""
