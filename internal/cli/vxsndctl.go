// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// vxsndctl is the control program of vxsnd. Its daemon is looked for as a service
// of systemd, and by its own default.
var vxsndctl = &ctlProgram{
	daemon:  config.Vxsnd,
	name:    "vxsndctl",
	purpose: "Shows what a running vxsnd does, its peers and which members it has, and\nchanges what can be changed while it runs.",
	sockets: []string{"/run/vxsnd/vxsnd.sock", "/var/run/vxsnd.sock"},
	commands: slices.Concat(grouped(looking, []ctlCommand{
		{name: "show", doc: "how the daemon does in short, or each figure",
			operands: []operand{{name: "detail", kind: wordOperand, optional: true}},
			asks:     control.CommandShow, printer: printWhole(showDetail), run: runShow},
		{name: "peers", doc: "how its exchange with each peer goes",
			asks: control.CommandPeers, shared: true, printer: printWhole(peersText)},
		fdbCommand, vtepCommand, statsCommand, topCommand, explainCommand, captureCommand, monitorCommand,
		{name: "get config", doc: "the configuration in force, or one option of it", operands: []operand{oneOption},
			asks: control.CommandConfig, args: configArgs, printer: newConfigPrinter},
	}), grouped(changing, operatorCommands, steeringCommands), grouped(others, []ctlCommand{completionCommand})),
}
