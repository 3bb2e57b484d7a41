// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// vxrdctl is the control program of vxrd. Its daemon is looked for as a service of
// systemd, and by its own default.
var vxrdctl = &ctlProgram{
	daemon:  config.Vxrd,
	name:    "vxrdctl",
	purpose: "Shows what a running vxrd has registered, and which VTEPs it was told of, and\nchanges what can be changed while it runs.",
	sockets: []string{"/run/vxrd/vxrd.sock", "/var/run/vxrd.sock"},
	commands: slices.Concat(grouped(looking, []ctlCommand{
		{name: "show", doc: "how the daemon does: registrations, answers, warnings",
			asks: control.CommandShow, printer: printWhole(registrarText)},
		{name: "vxlans", doc: "the VNIs that are registered, and those that are not", operands: []operand{oneVNI},
			asks: control.CommandVXLANs, args: vniArgs, printer: printList(vxlansText, vxlansDeployed)},
		{name: "vxlans hrep", doc: "the VNIs with flood entries in the kernel, and how many", operands: []operand{oneVNI},
			asks: control.CommandPeers, args: vniArgs, first: ifHeadEnd, printer: printList(programmedText, membersDeployed)},
		{name: "peers", doc: "the VTEPs of each VNI, with head-end replication", operands: []operand{oneVNI},
			asks: control.CommandPeers, args: vniArgs, first: ifHeadEnd, printer: printList(membersText, membersDeployed)},
		{name: "get config", doc: "the configuration in force, or one option of it", operands: []operand{oneOption},
			asks: control.CommandConfig, args: configArgs, printer: newConfigPrinter},
		registrarMonitorCommand,
	}), grouped(changing, steeringCommands), grouped(others, []ctlCommand{completionCommand})),
}

// headEndOff is what the Python suite says where there are no flood lists.
const headEndOff = "Head-end replication is turned off on this device.\n" +
	"This command will not provide any output\n"

// ifHeadEnd looks whether there are flood lists, and says so where there are
// none.
func ifHeadEnd(show json.RawMessage, f format, w io.Writer) (bool, error) {
	p := &keeper[control.Registrar]{}
	if err := p.piece(show); err != nil || p.value.HeadRep {
		return err == nil, err
	}
	_, err := io.WriteString(w, map[format]string{formatText: headEndOff, formatDeployed: "{}\n", formatJSON: "[]\n"}[f])
	return false, err
}

// table returns what writes rows in columns, under their heads, and what ends it.
func table(b *screen, heads ...string) (row func(cells ...string), end func()) {
	t := tabwriter.NewWriter(b, 8, 0, len(columnGap), ' ', 0)
	row = func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }
	var lines []string
	for _, h := range heads {
		lines = append(lines, strings.Repeat("=", len(h)))
	}
	row(heads...)
	row(lines...)
	return row, func() { t.Flush() } // a bytes.Buffer takes everything
}

func addresses(as []netip.Addr) string {
	text := make([]string, len(as))
	for i, a := range as {
		text[i] = a.String()
	}
	return strings.Join(text, ", ")
}

// of names a VNI of a device. A device that has none comes with VNI 0.
func of(device string, vni uint32) string {
	if vni == 0 {
		return device
	}
	return fmt.Sprintf("%s, VNI %d", device, vni)
}

// vxlansText writes what is registered as the Python suite does, and below it
// what is not.
func vxlansText(b *screen, all []control.VXLAN) {
	row, end := table(b, "VNI", "Local Addr", "Svc Node")
	empty := true
	for i := range all {
		if v := &all[i]; v.Registered {
			empty = false
			row(fmt.Sprint(v.VNI), v.Local.String(), addresses(v.ServiceNodes))
		}
	}
	end()
	if empty {
		b.WriteString("Empty\n")
	}
	head := "\nNot registered:\n"
	for i := range all {
		if v := &all[i]; !v.Registered {
			fmt.Fprintf(b, "%s  %s: %s\n", head, of(v.Device, v.VNI), oneLine(v.Reason))
			head = ""
		}
	}
}

// vxlansDeployed writes what is registered as one JSON object:
// {"VNI": ["device", "local address", "service nodes"], …}.
func vxlansDeployed(b *screen, all []control.VXLAN) {
	sep := "{"
	for i := range all {
		if v := &all[i]; v.Registered {
			fmt.Fprintf(b, `%s"%d": [%s, "%s", "%s"]`, sep, v.VNI, quoted(v.Device), v.Local, addresses(v.ServiceNodes))
			sep = ", "
		}
	}
	closeObject(b, sep)
}

// quoted returns a string as JSON has it.
func quoted(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("cli: a string does not become JSON: " + err.Error())
	}
	return b
}

// closeObject ends a JSON object whose next member would begin with sep.
func closeObject(b *screen, sep string) {
	if sep == "{" {
		b.WriteString("{")
	}
	b.WriteString("}\n")
}

// membersText writes flood lists as the Python suite does, and below them what
// is to be known about some.
func membersText(b *screen, all []control.FloodList) {
	row, end := table(b, "VNI", "Peer Addrs")
	for i := range all {
		row(fmt.Sprint(all[i].VNI), cmp.Or(addresses(all[i].Members), "-"))
	}
	end()
	if len(all) == 0 {
		b.WriteString("Empty\n")
	}
	listNotes(b, all)
}

// programmedText writes which flood lists have entries in the kernel.
func programmedText(b *screen, all []control.FloodList) {
	row, end := table(b, "VNI", "Device", "Entries", "Of Others")
	empty := true
	for i := range all {
		if l := &all[i]; l.Own > 0 {
			empty = false
			row(fmt.Sprint(l.VNI), l.Device, fmt.Sprint(l.Own), fmt.Sprint(l.Foreign))
		}
	}
	end()
	if empty {
		b.WriteString("Empty\n")
	}
	listNotes(b, all)
}

// listNotes writes what is wrong with flood lists. Those that are stale are
// mostly all of them, and told in one line.
func listNotes(b *screen, all []control.FloodList) {
	sep, stale, empty := "\n", 0, 0
	var unregistered []uint32
	note := func(format string, a ...any) {
		fmt.Fprintf(b, sep+format+"\n", a...)
		sep = ""
	}
	for i := range all {
		l := &all[i]
		if l.Unregistered {
			unregistered = append(unregistered, l.VNI)
		}
		if l.Stale {
			stale++
			if len(l.Members) == 0 {
				empty++
			}
		}
		if l.Managed {
			note("%s: left alone, since another daemon manages its entries (hrep_devices)", of(l.Device, l.VNI))
		}
		if l.Problem != "" {
			note("%s: %s", of(l.Device, l.VNI), oneLine(l.Problem))
		}
	}
	if n := len(unregistered); n > 0 {
		note("%d of %d lists are of VNIs that are not registered, and kept as they were: %s", n, len(all), someVNIs(unregistered))
	}
	if stale > 0 {
		kept := "kept as they were"
		switch empty {
		case 0:
		case stale:
			kept = "without members"
		default:
			kept += fmt.Sprintf(", %d without members", empty)
		}
		note("%d of %d lists are stale, since no service node answers: %s", stale, len(all), kept)
	}
}

// membersDeployed writes flood lists as one JSON object: {"VNI": ["address", …], …}.
func membersDeployed(b *screen, all []control.FloodList) {
	sep := "{"
	for i := range all {
		fmt.Fprintf(b, `%s"%d": [`, sep, all[i].VNI)
		for j, a := range all[i].Members {
			if j > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(b, `"%s"`, a)
		}
		b.WriteString("]")
		sep = ", "
	}
	closeObject(b, sep)
}
