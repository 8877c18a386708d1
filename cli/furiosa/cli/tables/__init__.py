"""What the published commands show, from what a broker says: a table for people, a document for programs.

Given are views of `furiosa.common.views`, or what `furiosa.cli.quick` reads, which has the same attributes.
"""
