"""What pyproject.toml cannot say: what lies in the root of the project is shipped inside the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithShippedFiles(build_py):
    """Copies pages, guide and example configuration to where :mod:`obsarchive.core.shipped` finds them."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if self.editable_mode:
            return
        shipped = Path(self.build_lib, "obsarchive", "shipped")
        self.mkpath(str(shipped))
        self.copy_file("config.json", str(shipped))
        for folder in ("templates", "static", "docs"):
            self.copy_tree(folder, str(shipped / folder))


setup(cmdclass={"build_py": BuildWithShippedFiles})
