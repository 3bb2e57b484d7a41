// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"vxsnd/internal/vxlan"
)

// An operand is what stands behind a command. An optional one may be left out.
type operand struct {
	name     string // as help has it, and the name to ask ctlCall for it; the word of wordOperand
	kind     operandKind
	optional bool
	words    []string // what choiceOperand can be
}

type operandKind int

const (
	textOperand    operandKind = iota // anything
	vniOperand                        // a VNI
	addressOperand                    // the address of a VTEP
	optionOperand                     // the name of an option
	reloadOperand                     // the name of an option that takes effect on reload
	fileOperand                       // the name of a file
	choiceOperand                     // one of some words
	wordOperand                       // its name itself, or nothing
)

// oneVNI is the operand of a command that answers for all VNIs, or for one.
var oneVNI = operand{name: "VNI", kind: vniOperand, optional: true}

// oneOption is the operand of a command that answers for all options, or for one.
var oneOption = operand{name: "NAME", kind: optionOperand, optional: true}

// read returns the value of an operand. The error says what is wrong with it.
func (o *operand) read(arg string) (any, error) {
	switch o.kind {
	case vniOperand:
		v, err := vxlan.ParseVNI(arg)
		return uint32(v), err
	case addressOperand:
		a, err := parseAddress(arg)
		return a, err
	case optionOperand, reloadOperand:
		if arg == "" {
			return nil, errors.New("the name of an option is missing")
		}
	case fileOperand:
		if arg == "" {
			return nil, errors.New("a file name is missing")
		}
	case choiceOperand:
		if !slices.Contains(o.words, arg) {
			return nil, fmt.Errorf("%q is not one of %s", arg, strings.Join(o.words, ", "))
		}
	}
	return arg, nil
}

func parseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an address", text)
	}
	return a.Unmap(), nil
}

// parse reads what is no flag: a command, and its operands.
func (c *ctlCall) parse(args []string) error {
	p, cmd := c.program, c.command
	switch {
	case len(args) == 0:
		return usageError(p.list(), "a command is missing")
	case cmd == nil:
		return usageError(p.meant(args[0]), "unknown command %q", args[0])
	}
	args = args[len(strings.Fields(cmd.name)):]
	c.values = make(map[string]any)
	for i := range cmd.operands {
		o := &cmd.operands[i]
		switch {
		case len(args) == 0 && o.optional:
			continue
		case len(args) == 0:
			return usageError("write "+p.name+" "+cmd.synopsis(), "%s: %s is missing", cmd.name, o.name)
		case o.optional && !cmd.takes(o, args[0]):
			continue
		}
		v, err := o.read(args[0])
		if err != nil {
			return usageError(p.meantBehind(cmd, args[0]), "%s: %w", cmd.name, err)
		}
		c.values[o.name] = v
		args = args[1:]
	}
	if len(args) > 0 {
		hint := p.meantBehind(cmd, args[0])
		if hint == "" {
			hint = p.name + " " + cmd.name + " -h tells what may stand there"
		}
		return usageError(hint, "%s: surplus argument %q", cmd.name, args[0])
	}
	return nil
}

// takes tells whether arg is for the optional operand o: not if o is a word and
// arg is not that, nor if arg is another word of the command.
func (cmd *ctlCommand) takes(o *operand, arg string) bool {
	if o.kind == wordOperand {
		return arg == o.name
	}
	return !slices.ContainsFunc(cmd.operands, func(w operand) bool { return w.kind == wordOperand && w.name == arg })
}
