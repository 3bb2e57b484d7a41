// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"vxsnd/internal/config"
)

const (
	helpColumn = 34 // where the texts of help begin
	helpWidth  = 80 // where its lines end

	hardBlank = "\x00" // a blank at which wrap breaks no line
)

// purpose says what each program is for.
var purpose = map[config.Program]string{
	config.Vxsnd: "Floods the packets of VXLANs: a VTEP sends each broadcast, unknown unicast or\n" +
		"multicast packet to vxsnd, which sends a copy to every other VTEP of that VXLAN.\n",
	config.Vxrd: "Registers the VXLAN devices of this machine with service nodes and, with\n" +
		"head-end replication, gives each of them the other VTEPs as destinations of\n" +
		"broadcast, unknown unicast and multicast packets.\n",
}

// help writes what -h of a program prints.
func help(w io.Writer, p config.Program) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "Usage: %s [FLAG]...\n\n%s\n", p, purpose[p])
	for _, m := range modes(p) {
		names := []string{m.name}
		if m.name == "config" {
			names = append(names, configAlias)
		}
		helpFlag(b, m.short, names, m.arg, m.doc)
	}
	group := ""
	later := false
	for _, o := range config.OptionsFor(p) {
		if o.Obsolete || o.Programs&p == 0 {
			continue
		}
		if o.Group != group {
			group = o.Group
			b.WriteString("\n" + group + ":\n")
		}
		mark := ""
		if o.Later {
			mark, later = " *", true
		}
		helpFlag(b, o.Shorthand, shownNames(o), o.Arg, o.Doc+defaultText(o, p)+mark)
	}
	if later {
		b.WriteString("\n* is taken and checked; all or a part of it has no effect in this version.\n")
	}
	fmt.Fprintf(b, "\nEach flag of these groups is a key of the configuration file, with underscores\n"+
		"for hyphens; the flag wins. LIST has blanks or commas between its values.\n"+
		"A switch is turned off by =false. Options of %s are taken and have no effect.\n"+
		"See %[2]s(8) and %[2]s.conf(5) for more.\n\n"+
		"Exit status: 0 stopped, 1 failed at run time, 2 usage, 3 configuration,\n"+
		"4 could not bind or lacks privilege.\n", config.Both&^p, p)
	return b.Flush()
}

// shownNames leaves out older names, but not the one that comes first.
func shownNames(o config.Option) []string {
	names := o.FlagNames()
	if o.Flag != "" {
		return names[:2]
	}
	return names[:1]
}

func defaultText(o config.Option, p config.Program) string {
	switch def := o.DefaultFor(p); {
	case o.DefaultNote != "":
		return " (default" + hardBlank + o.DefaultNote + ")"
	case def == "none":
		return ""
	default:
		return " (default" + hardBlank + def + ")"
	}
}

// helpFlag writes one flag, its text from helpColumn on.
func helpFlag(b *bufio.Writer, short string, long []string, arg, doc string) {
	line := "      "
	if short != "" {
		line = "  -" + short + ", "
	}
	line += "--" + strings.Join(long, ", --")
	if arg != "" {
		line += " " + arg
	}
	if len(line) > helpColumn-2 {
		b.WriteString(line + "\n")
		line = ""
	}
	for _, text := range wrap(doc, helpWidth-helpColumn) {
		b.WriteString(line + strings.Repeat(" ", helpColumn-len(line)) + text + "\n")
		line = ""
	}
}

// wrap breaks text at blanks into lines of at most width bytes, where its
// words let it.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += strings.ReplaceAll(word, hardBlank, " ")
	}
	return append(lines, line)
}
