// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// ctlColumn is where the texts of the help of control programs begin.
const ctlColumn = 28

// synopsis is the command with its operands.
func (cmd *ctlCommand) synopsis() string {
	text := cmd.name
	for _, o := range cmd.operands {
		name := o.name
		if o.kind == choiceOperand {
			name = strings.Join(o.words, "|")
		}
		if o.optional {
			name = "[" + name + "]"
		}
		text += " " + name
	}
	return text
}

// help writes what -h prints.
func (p *ctlProgram) help(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "Usage: %s [-u FILE] [-j | --json] COMMAND\n\n%s\n", p.name, p.purpose)
	group := ""
	for i := range p.commands {
		if g := p.commands[i].group; g != group {
			group = g
			b.WriteString("\n" + g + ":\n")
		}
		helpRow(b, "  "+p.commands[i].synopsis(), p.commands[i].doc)
	}
	helpRow(b, "  help [COMMAND]", "print this help, or that on a command, and exit")
	b.WriteString("\nFlags:\n")
	p.helpFlags(b, newCtlFlags(p.name, nil))
	fmt.Fprintf(b, "\nFlags may stand before and behind the command, which may have more of its own:\n"+
		"%s COMMAND -h lists them. See %[1]s(8) for more.\n\n", p.name)
	b.WriteString("Exit status: 0 done, 1 the daemon refused or was not reached, 2 usage.\n")
	return b.Flush()
}

// helpOn writes the help on a command.
func (p *ctlProgram) helpOn(w io.Writer, cmd *ctlCommand) error {
	b := bufio.NewWriter(w)
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.SortFlags = false
	usage := fmt.Sprintf("Usage: %s %s", p.name, cmd.synopsis())
	if cmd.flags != nil {
		cmd.flags(own)
		usage += " [FLAG]..."
	}
	fmt.Fprintf(b, "%s\n\n%s.\n", usage, sentence(cmd.doc))
	if cmd.more != "" {
		for _, line := range wrap(strings.ReplaceAll(cmd.more, "PROGRAM", p.name), helpWidth) {
			b.WriteString(line + "\n")
		}
	}
	if own.HasFlags() {
		b.WriteString("\nFlags:\n")
		p.helpFlags(b, own)
	}
	fmt.Fprintf(b, "\n%s -h lists the flags that all commands have.\n", p.name)
	return b.Flush()
}

// sentence is text as the beginning of a sentence.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

func (p *ctlProgram) helpFlags(b *bufio.Writer, fs *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) {
		names := "      --" + f.Name
		switch {
		case f.Name == f.Shorthand:
			names = "  -" + f.Shorthand
		case f.Shorthand != "":
			names = "  -" + f.Shorthand + ", --" + f.Name
		}
		arg, text := pflag.UnquoteUsage(f)
		if f.NoOptDefVal == "" {
			names += " " + arg
		}
		switch {
		case f.Name == "udsfile":
			text += " (default" + hardBlank + strings.Join(p.sockets, ", then ") + ")"
		case f.NoOptDefVal == "" && f.DefValue != "":
			text += " (default" + hardBlank + f.DefValue + ")"
		}
		helpRow(b, names, text)
	})
}

// helpRow writes a line of help, its text from ctlColumn on.
func helpRow(b *bufio.Writer, what, text string) {
	if len(what) > ctlColumn-2 {
		b.WriteString(what + "\n")
		what = ""
	}
	for _, line := range wrap(text, helpWidth-ctlColumn) {
		fmt.Fprintf(b, "%-*s%s\n", ctlColumn, what, line)
		what = ""
	}
}
