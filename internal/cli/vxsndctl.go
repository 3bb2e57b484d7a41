// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// vxsndctl is the control program of vxsnd. Its daemon is looked for as a service
// of systemd, and by its own default.
var vxsndctl = &ctlProgram{
	daemon:  config.Vxsnd,
	name:    "vxsndctl",
	purpose: "Shows what a running vxsnd does, its peers and which members it has.",
	sockets: []string{"/run/vxsnd/vxsnd.sock", "/var/run/vxsnd.sock"},
	commands: []ctlCommand{
		{name: "show", doc: "how the daemon does: addresses, table, counters",
			asks: control.CommandShow, printer: printWhole(showText)},
		{name: "peers", doc: "how its exchange with each peer goes",
			asks: control.CommandPeers, shared: true, printer: printWhole(peersText)},
		{name: "fdb", doc: "the members of all VXLANs, or of one", operands: []operand{oneVNI},
			asks: control.CommandFDB, args: vniArgs, printer: newFDBPrinter},
		{name: "get config", doc: "the configuration in force, or one option of it", operands: []operand{oneOption},
			asks: control.CommandConfig, args: configArgs, printer: newConfigPrinter},
	},
}
