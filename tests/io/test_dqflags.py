"""The table of quality bits is the installed package's own."""

from tso3.io.dqflags import pixel_flags


def test_equal_to_what_the_package_itself_says():
    from stdatamodels.jwst.datamodels import dqflags

    assert dict(pixel_flags()) == dqflags.pixel
