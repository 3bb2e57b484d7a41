// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"embed"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"vxsnd/internal/config"
)

// completionCommand prints what a shell needs to complete command lines. What can
// stand where is asked of the program itself, which knows all its commands.
var completionCommand = ctlCommand{
	name: "completion", doc: "what makes a shell complete command lines",
	more: "For bash: source <(PROGRAM completion bash). For zsh the output goes to a file in the function path, " +
		"with the name _PROGRAM. For fish: PROGRAM completion fish | source. " +
		"make install puts them where shells look.",
	operands: []operand{{name: "SHELL", kind: choiceOperand, words: []string{"bash", "zsh", "fish"}}},
	run: func(_ context.Context, c *ctlCall) error {
		script, err := completionScripts.ReadFile("completion/" + c.text("SHELL"))
		if err != nil {
			return err
		}
		_, err = c.out.Write(bytes.ReplaceAll(script, []byte("NAME"), []byte(c.program.name)))
		return err
	},
}

// candidatesFlag is the first argument of the program that shells run to learn
// what can stand next: those behind it are what has been written, the last of
// them the one to complete, which may be empty.
const candidatesFlag = "--candidates"

// fileCandidate is printed where the name of a file may stand. It and
// candidatesFlag are in the scripts, too.
const fileCandidate = ":file"

// completionScripts are what shells read, one for each, with NAME for the
// program.
//
//go:embed completion
var completionScripts embed.FS

// candidates prints what could stand where the last of args is, one a line.
func (p *ctlProgram) candidates(args []string, w io.Writer) error {
	if len(args) == 0 {
		args = []string{""}
	}
	before, word := args[:len(args)-1], args[len(args)-1]
	var b strings.Builder
	for _, c := range p.fitting(before, word) {
		if c == fileCandidate || strings.HasPrefix(c, word) {
			b.WriteString(c + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fitting returns what could stand behind before; word is what is written of it.
func (p *ctlProgram) fitting(before []string, word string) []string {
	onlyWords := slices.Contains(before, "--")
	if len(before) > 0 && !onlyWords {
		if f := p.flagBefore(before[len(before)-1]); f != nil {
			return flagWords(f, "")
		}
	}
	words, cmd := p.find(before)
	if strings.HasPrefix(word, "-") && !onlyWords {
		fs := newCtlFlags(p.name, cmd)
		if name, _, ok := strings.Cut(strings.TrimPrefix(word, "--"), "="); ok {
			if f := fs.Lookup(name); f != nil && strings.HasPrefix(word, "--") {
				return flagWords(f, "--"+name+"=")
			}
			return nil
		}
		return flagNames(fs)
	}
	if len(words) > 0 && words[0] == "help" {
		return p.nextWords(words[1:])
	}
	next := p.nextWords(words)
	if len(words) == 0 {
		next = append(next, "help")
	}
	if cmd != nil {
		next = append(next, p.operandWords(cmd, words[len(strings.Fields(cmd.name)):])...)
	}
	return next
}

// nextWords returns the words with which words are the beginning of a command.
func (p *ctlProgram) nextWords(words []string) (next []string) {
	for i := range p.commands {
		name := strings.Fields(p.commands[i].name)
		if len(name) > len(words) && slices.Equal(name[:len(words)], words) && !slices.Contains(next, name[len(words)]) {
			next = append(next, name[len(words)])
		}
	}
	return next
}

// operandWords returns what the next operand of cmd could be, where given are
// there already.
func (p *ctlProgram) operandWords(cmd *ctlCommand, given []string) (words []string) {
	for i := range cmd.operands {
		o := &cmd.operands[i]
		if len(given) > 0 {
			if !o.optional || cmd.takes(o, given[0]) {
				given = given[1:]
			}
			continue
		}
		switch o.kind {
		case wordOperand:
			words = append(words, o.name)
		case choiceOperand:
			words = append(words, o.words...)
		case fileOperand:
			words = append(words, fileCandidate)
		case optionOperand:
			words = append(words, optionNames(p.daemon, false)...)
		case reloadOperand:
			words = append(words, optionNames(p.daemon, true)...)
		}
		if !o.optional {
			break
		}
	}
	return words
}

// optionNames are the options that a daemon makes use of, with reload those that
// take effect on reload.
func optionNames(p config.Program, reload bool) (names []string) {
	for _, o := range config.OptionsFor(p) {
		if !o.Obsolete && o.Programs&p != 0 && (o.Reload || !reload) {
			names = append(names, o.Name)
		}
	}
	return names
}

func flagNames(fs *pflag.FlagSet) (names []string) {
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name == f.Shorthand {
			names = append(names, "-"+f.Name)
			return
		}
		names = append(names, "--"+f.Name)
		if f.Shorthand != "" {
			names = append(names, "-"+f.Shorthand)
		}
	})
	return names
}

// flagWords returns what the value of a flag could be, each behind prefix.
func flagWords(f *pflag.Flag, prefix string) (words []string) {
	if v, ok := f.Value.(interface{ completions() []string }); ok {
		for _, w := range v.completions() {
			words = append(words, prefix+w)
		}
	}
	if arg, _ := pflag.UnquoteUsage(f); arg == "FILE" {
		words = append(words, fileCandidate)
	}
	return words
}
