"""Install the node ``ros2 run edgeseg_ros segment``."""

from setuptools import setup

setup(
    name="edgeseg_ros",
    version="0.3.0",
    packages=["edgeseg_ros"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/edgeseg_ros"]),
        ("share/edgeseg_ros", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    entry_points={"console_scripts": ["segment = edgeseg_ros.node:main"]},
)
