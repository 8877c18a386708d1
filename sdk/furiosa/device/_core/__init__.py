"""Values of furiosa.device and the rules of finding devices: nothing here asks anybody."""
