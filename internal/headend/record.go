// SPDX-License-Identifier: Apache-2.0

package headend

// live returns the lines of all entries that are own, or may be.
func (l *Lists) live() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []byte
	for _, li := range l.lists {
		lines = appendLines(lines, '+', li.key, union(li.own, li.unsure))
	}
	return lines
}

// forget writes lines about what is not own any more.
func (l *Lists) forget(lines []byte) {
	if l.inspect() {
		l.compact()
		return
	}
	if err := l.journal.forget(lines); err != nil {
		l.brokenBy(err)
	}
}

// compact makes the journal say nothing but what is own.
func (l *Lists) compact() {
	if err := l.journal.compact(l.live()); err != nil {
		l.brokenBy(err)
		return
	}
	l.mended()
}

// brokenBy notes, and logs once, that the journal cannot be written.
func (l *Lists) brokenBy(err error) {
	l.mu.Lock()
	first := l.broken == nil
	l.broken = err
	l.mu.Unlock()
	if first {
		l.log.WithError(err).Warn("state file cannot be written: no flood entries are added until it can")
	}
}

// mended notes that the journal can be written again.
func (l *Lists) mended() {
	l.mu.Lock()
	was := l.broken
	l.broken = nil
	l.mu.Unlock()
	if was != nil {
		l.log.Info("state file can be written again")
	}
}

// order brings the journal in order, so that it can be written to: somebody may
// have removed it or changed it, or it may be behind. Whoever adds without it
// cannot tell after a restart what is own.
func (l *Lists) order() error {
	if !l.journal.named() {
		j, _, err := openJournal(l.journal.o, true)
		if err != nil {
			return err
		}
		l.log.Warn("state file was removed: made again")
		_ = l.journal.close()
		l.journal = j
		l.journal.behind = true
	}
	l.inspect()
	if l.journal.behind {
		return l.journal.compact(l.live())
	}
	return nil
}

// inspect looks whether somebody has changed the journal, and tells if that is
// news: it is to be written anew then.
func (l *Lists) inspect() bool {
	changed := l.journal.inspect()
	if changed {
		l.log.Warn("state file was changed by something else: written anew")
	}
	return changed
}

// checkFile has the journal in order where nothing is to be written, and looks
// whether one that was not can be written again.
func (l *Lists) checkFile() {
	if err := l.order(); err != nil {
		l.brokenBy(err)
	} else if l.broken != nil {
		l.compact()
	}
}
