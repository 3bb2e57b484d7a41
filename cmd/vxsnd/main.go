// SPDX-License-Identifier: Apache-2.0

// Command vxsnd is the one executable of the project: the name that it is
// called by says which of its programs it is.
package main

import (
	"os"

	"vxsnd/internal/cli"
)

func main() {
	os.Exit(cli.Run(os.Args, os.Stdout, os.Stderr))
}
