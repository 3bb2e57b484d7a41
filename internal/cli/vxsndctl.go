// SPDX-License-Identifier: Apache-2.0

package cli

import "vxsnd/internal/control"

// vxsndctl is the control program of vxsnd. Its daemon is looked for as a service
// of systemd, and by its own default.
var vxsndctl = &ctlProgram{
	name:    "vxsndctl",
	sockets: []string{"/run/vxsnd/vxsnd.sock", "/var/run/vxsnd.sock"},
	commands: []ctlCommand{
		{name: "show", asks: control.CommandShow, printer: printWhole(showText)},
		{name: "peers", asks: control.CommandPeers, first: ownAnswer, printer: printWhole(peersText)},
		{name: "fdb", asks: control.CommandFDB, operand: vniOperand, printer: newFDBPrinter},
		{name: "get config", asks: control.CommandConfig, operand: optionOperand, printer: newConfigPrinter},
	},
	help: `Usage: vxsndctl [-u FILE] [-j | --json] COMMAND

Shows what a running vxsnd does, its peers and which members it has.

Commands:
  show                 how the daemon does: addresses, table, counters
  peers                how its exchange with each peer goes
  fdb [VNI]            the members of all VXLANs, or of one
  get config [NAME]    the configuration that is in force, or one option of it
  help                 print this help and exit

Flags:
  -u, --udsfile FILE   the daemon's Unix socket for management (default
                       /run/vxsnd/vxsnd.sock, then /var/run/vxsnd.sock)
  -j                   print JSON, fdb in the shape of the Python suite
      --json           print JSON with all that is known
  -V, --version        print the version and exit
  -h, --help           print this help and exit

Flags may stand before and behind the command. See vxsndctl(8) for more.

Exit status: 0 done, 1 the daemon refused or was not reached, 2 usage.
`,
}
