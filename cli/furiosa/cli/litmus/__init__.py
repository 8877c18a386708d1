"""Whether a model works with this SDK: quantised, compiled and run once, with what a bug report needs."""
