// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"strconv"

	"vxsnd/internal/control"
)

var registrarMonitorCommand = ctlCommand{
	name: "monitor", doc: "VNIs and members as they come and go, of all VNIs or of one",
	more:     monitorHelp,
	operands: []operand{oneVNI},
	run: func(ctx context.Context, c *ctlCall) error {
		return monitor(ctx, c, control.VNIArgs{VNI: c.vni(oneVNI.name)}, newEventTable(c, registrarColumns, registrarCells))
	},
}

// registrarColumns are those of what happens to VNIs of a registration daemon.
var registrarColumns = []column{{"Time", 12}, {"Event", 14}, {"VNI", 8}, {"Device", 12}, {"Address", 15}, {"Details", 0}}

// registrarCells returns what happened to a VNI in its columns.
func registrarCells(e *control.RegistrarEvent) ([]string, style) {
	at := e.Time.Local().Format(eventTime)
	if e.Event == control.EventLost {
		return []string{at, e.Event, lostText(e.Count)}, warning
	}
	address := "-"
	if e.Address.IsValid() {
		address = e.Address.String()
	}
	s := map[string]style{
		control.EventRegistered: good, control.EventMemberAdded: good, control.EventSkipped: warning,
		control.EventUnregistered: bad, control.EventMemberRemoved: bad,
	}[e.Event]
	return []string{at, e.Event, strconv.FormatUint(uint64(e.VNI), 10), cmp.Or(e.Device, "-"), address, oneLine(e.Reason)}, s
}
