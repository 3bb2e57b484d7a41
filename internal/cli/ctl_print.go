// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"io"
	"strconv"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// printWhole returns a maker of printers of an answer in one piece, a T: text
// writes it for people.
func printWhole[T any](text func(*screen, *T)) func(*ctlCall) printer {
	return func(c *ctlCall) printer { return &wholePrinter[T]{c: c, text: text} }
}

// A keeper keeps an answer in one piece, a T.
type keeper[T any] struct {
	value T
	came  bool
}

func (k *keeper[T]) piece(data json.RawMessage) error {
	k.came = true
	if err := json.Unmarshal(data, &k.value); err != nil {
		return notUnderstood(err)
	}
	return nil
}

func (k *keeper[T]) end() error {
	if !k.came {
		return errEmpty
	}
	return nil
}

var errEmpty = errors.New("the answer is empty")

type wholePrinter[T any] struct {
	keeper[T]
	c    *ctlCall
	text func(*screen, *T)
}

func (p *wholePrinter[T]) piece(data json.RawMessage) error {
	b := p.c.newScreen()
	if p.c.format == formatText {
		if err := p.keeper.piece(data); err != nil {
			return err
		}
		p.text(b, &p.value)
	} else {
		p.came = true
		// As it came, so that what a later daemon says of itself is there too.
		if err := json.Indent(&b.Buffer, data, "", "  "); err != nil {
			return notUnderstood(err)
		}
		b.WriteByte('\n')
	}
	_, err := p.c.out.Write(b.Bytes())
	return err
}

// An arrayPrinter prints the elements of all pieces as one JSON array, one a line,
// each with all that the daemon says.
type arrayPrinter struct {
	w    io.Writer
	open bool
}

func (p *arrayPrinter) piece(data json.RawMessage) error {
	var entries []json.RawMessage
	if err := json.Unmarshal(data, &entries); err != nil {
		return notUnderstood(err)
	}
	var b []byte
	for _, e := range entries {
		start := ",\n"
		if !p.open {
			start, p.open = "[\n", true
		}
		b = append(append(b, start...), e...)
	}
	_, err := p.w.Write(b)
	return err
}

func (p *arrayPrinter) end() error {
	text := "\n]\n"
	if !p.open {
		text = "[]\n"
	}
	_, err := io.WriteString(p.w, text)
	return err
}

// printList returns a maker of printers of an answer in parts, each a []T: text
// and deployed write all of it, for people and as the Python suite does. A nil
// deployed is JSON with everything.
func printList[T any](text, deployed func(*screen, []T)) func(*ctlCall) printer {
	return func(c *ctlCall) printer {
		switch {
		case c.format == formatText:
			return &listPrinter[T]{c: c, write: text}
		case c.format == formatDeployed && deployed != nil:
			return &listPrinter[T]{c: c, write: deployed}
		}
		return &arrayPrinter{w: c.out}
	}
}

type listPrinter[T any] struct {
	c     *ctlCall
	write func(*screen, []T)
	all   []T
}

func (p *listPrinter[T]) piece(data json.RawMessage) error {
	var part []T
	if err := json.Unmarshal(data, &part); err != nil {
		return notUnderstood(err)
	}
	p.all = append(p.all, part...)
	return nil
}

func (p *listPrinter[T]) end() error {
	b := p.c.newScreen()
	p.write(b, p.all)
	_, err := p.c.out.Write(b.Bytes())
	return err
}

// newConfigPrinter returns a printer of the answer to config. The Python suite
// prints it as JSON in any case.
var newConfigPrinter = printList(configText, configText)

// configText writes options as one JSON object, in the order of their names.
func configText(b *screen, values []control.ConfigValue) {
	object := make(map[string]any)
	for _, v := range values {
		object[v.Name] = typed(v)
	}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	_ = e.Encode(object) // strings, numbers and booleans in memory
}

// typed returns the value of an option as JSON has it: a boolean, a number or a
// string.
func typed(v control.ConfigValue) any {
	o, _ := config.Lookup(v.Name)
	if on, err := strconv.ParseBool(v.Value); err == nil && o.Boolean() {
		return on
	}
	if _, err := strconv.ParseUint(v.Value, 10, 64); err == nil {
		return json.Number(v.Value)
	}
	return v.Value
}
