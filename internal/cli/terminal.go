// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/fatih/color"
	"golang.org/x/term"
)

// A terminal is what is known of where output goes. The zero value is no
// terminal: neither colours nor a width to keep to.
type terminal struct {
	on     bool // it is one
	width  int  // in columns, 0 for no bound
	height int  // in lines, 0 where that is not known
	colour bool
}

// terminalOf looks what w is. NO_COLOR, whatever it is but empty, and a dumb
// terminal have no colours (https://no-color.org).
func terminalOf(w io.Writer) terminal {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return terminal{}
	}
	kind := os.Getenv("TERM")
	t := terminal{on: true, colour: os.Getenv("NO_COLOR") == "" && kind != "" && kind != "dumb"}
	if width, height, err := term.GetSize(int(f.Fd())); err == nil {
		t.width, t.height = width, height
	}
	return t
}

// A style is how a text looks on a terminal that has colours.
type style int

const (
	plain   style = iota
	good          // as it should be
	bad           // an operator must act
	warning       // an operator should look at it
	faint         // of less interest: heads
	strong        // titles
)

var styles = func() map[style]*color.Color {
	made := map[style]*color.Color{
		good: color.New(color.FgGreen), bad: color.New(color.FgRed), warning: color.New(color.FgYellow),
		faint: color.New(color.Faint), strong: color.New(color.Bold),
	}
	for _, c := range made {
		c.EnableColor() // whether is for the terminal to say
	}
	return made
}()

// paint returns text in a style, where the terminal has colours.
func (t terminal) paint(s style, text string) string {
	if c := styles[s]; t.colour && c != nil && text != "" {
		return c.Sprint(text)
	}
	return text
}

// should returns text in the style of what should be so and is, or is not.
func (t terminal) should(is bool, text string) string {
	if is {
		return t.paint(good, text)
	}
	return t.paint(bad, text)
}

// sgr is what paint puts around a text.
var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

// columns is how many columns of a terminal text takes.
func columns(text string) int { return utf8.RuneCountInString(sgr.ReplaceAllString(text, "")) }

// fold breaks text at blanks into lines of at most width columns, where its words
// let it. Text that fits is left as it is, as is all where width is too small to be
// worth it.
func fold(text string, width int) []string {
	if width < minFold || columns(text) <= width {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case columns(line)+1+columns(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

const minFold = 16

// A screen is a text in the making for a terminal.
type screen struct {
	bytes.Buffer
	terminal
}

// newScreen returns an empty screen for the output.
func (c *ctlCall) newScreen() *screen { return &screen{terminal: c.terminal} }
