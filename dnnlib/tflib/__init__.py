"""TensorFlow utilities in graph mode. Import the modules by name; this package itself loads nothing."""
