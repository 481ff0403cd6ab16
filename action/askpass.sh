#!/bin/sh
# What git asks for, from files: a token in an address or in the environment is seen by more than git.
folder=${REANCHOR_GIT_CREDENTIALS:-/var/run/reanchor/git}
case $1 in
  Username*) cat "$folder/username" 2>/dev/null || echo git ;;
  *) cat "$folder/token" ;;
esac
