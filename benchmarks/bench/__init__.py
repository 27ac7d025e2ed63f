"""The losses of this repository beside those of other libraries, on the same inputs."""
