#!/bin/sh
# Runs a quick part of the tests on each newer Python that this machine has, each in an environment of its
# own, which is made anew when pyproject.toml or constraints.txt changes.
set -e
tests="tests/client tests/durable tests/worker tests/wire/test_json.py"
found=
for version in 3.12 3.13 3.14; do
	for python in "$HOME"/.pyenv/versions/"$version".*/bin/python "python$version" none; do
		"$python" -c 'pass' 2>/dev/null && break
	done
	[ "$python" != none ] || continue
	found="$found $version"
	home=.venv/newer/$version
	if [ ! -e "$home/stamp" ] || [ pyproject.toml -nt "$home/stamp" ] || [ constraints.txt -nt "$home/stamp" ]; then
		"$python" -m venv --clear --without-pip "$home"
		# Little of what is installed is imported here: Python compiles that much by itself.
		.venv/bin/python -m pip --python "$home/bin/python" install --quiet --no-compile \
			--constraint constraints.txt --editable '.[kernel,otel]' --group tests
		touch "$home/stamp"
	fi
	echo "Python $version:"
	# shellcheck disable=SC2086  # they are several
	"$home/bin/python" -m pytest -q --hypothesis-profile=gate -m 'not slow' $tests
done
[ -n "$found" ] || echo "no Python of 3.12, 3.13 or 3.14 was found: they are NOT tested here"
