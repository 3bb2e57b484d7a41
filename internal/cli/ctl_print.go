// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// printWhole returns a maker of printers of an answer in one piece, a T: text
// writes it for people.
func printWhole[T any](text func(*bytes.Buffer, *T)) func(io.Writer, format) printer {
	return func(w io.Writer, f format) printer { return &wholePrinter[T]{w: w, f: f, text: text} }
}

// A keeper keeps an answer in one piece, a T.
type keeper[T any] struct {
	value T
	came  bool
}

func (k *keeper[T]) piece(data json.RawMessage) error {
	k.came = true
	if err := json.Unmarshal(data, &k.value); err != nil {
		return fmt.Errorf("the answer is not understood: %w", err)
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
	w    io.Writer
	f    format
	text func(*bytes.Buffer, *T)
}

func (p *wholePrinter[T]) piece(data json.RawMessage) error {
	var b bytes.Buffer
	if p.f == formatText {
		if err := p.keeper.piece(data); err != nil {
			return err
		}
		p.text(&b, &p.value)
	} else {
		p.came = true
		// As it came, so that what a later daemon says of itself is there too.
		if err := json.Indent(&b, data, "", "  "); err != nil {
			return fmt.Errorf("the answer is not understood: %w", err)
		}
		b.WriteByte('\n')
	}
	_, err := p.w.Write(b.Bytes())
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
		return fmt.Errorf("the answer is not understood: %w", err)
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
// and deployed write all of it, for people and as the Python suite does.
func printList[T any](text, deployed func(*bytes.Buffer, []T)) func(io.Writer, format) printer {
	return func(w io.Writer, f format) printer {
		switch f {
		case formatJSON:
			return &arrayPrinter{w: w}
		case formatDeployed:
			text = deployed
		}
		return &listPrinter[T]{w: w, write: text}
	}
}

type listPrinter[T any] struct {
	w     io.Writer
	write func(*bytes.Buffer, []T)
	all   []T
}

func (p *listPrinter[T]) piece(data json.RawMessage) error {
	var part []T
	if err := json.Unmarshal(data, &part); err != nil {
		return fmt.Errorf("the answer is not understood: %w", err)
	}
	p.all = append(p.all, part...)
	return nil
}

func (p *listPrinter[T]) end() error {
	var b bytes.Buffer
	p.write(&b, p.all)
	_, err := p.w.Write(b.Bytes())
	return err
}

// newConfigPrinter returns a printer of the answer to config. The Python suite
// prints it as JSON in any case.
var newConfigPrinter = printList(configText, configText)

// configText writes options as one JSON object, in the order of their names.
func configText(b *bytes.Buffer, values []control.ConfigValue) {
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
