#!/usr/bin/env bash
# Runs a command with ROS and the workspace in its environment.
set -eo pipefail # not -u: ROS's own setup files read variables that may be unset
source "/opt/ros/${ROS_DISTRO:?the base image sets it}/setup.bash"
source /workspace/install/setup.bash
exec "$@"
