package caddycvs

// This file holds where a ledger is: in a file, or in the shop's database, whose address is a secret.

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/ledger/sqlstore"
)

// LedgerPlace is where a ledger is: a file of one gateway, or the shop's database, which several gateways share.
type LedgerPlace struct {
	// Store is "file", "postgres", "mysql" (which is MariaDB, too), or "off" for no ledger. With "off" no other field
	// may be set. Default: file.
	Store string `json:"store,omitempty"`

	// Path is the absolute path of the file, whose directory must exist. It may have placeholders, which are expanded
	// at load. It is only for the store "file". Default: cvs/ledger.db in Caddy's data directory.
	Path string `json:"path,omitempty"`

	// DSN is the address of the database, as a placeholder such as `{env.CVS_DATABASE}`, in the form of pgx or of
	// go-sql-driver/mysql. A literal is refused, because it has a password. Required for "postgres" and "mysql"; there
	// is no other use.
	DSN string `json:"dsn,omitempty"`
}

const (
	ledgerFile     = "file"
	ledgerPostgres = "postgres"
	ledgerMySQL    = "mysql"
	ledgerOff      = "off"
)

// databases are the stores that are databases, with what reads the address of one.
var databases = map[string]func(dsn string) (*sqlstore.Database, error){ledgerPostgres: sqlstore.Postgres, ledgerMySQL: sqlstore.MySQL}

// otherNames are words by which somebody may call a database, in lower case.
var otherNames = map[string]string{
	"postgres": ledgerPostgres, "postgresql": ledgerPostgres, "postgre": ledgerPostgres, "pgsql": ledgerPostgres, "pgx": ledgerPostgres, "pg": ledgerPostgres,
	"mysql": ledgerMySQL, "mariadb": ledgerMySQL, "maria": ledgerMySQL,
}

const placeholderOfDSN = "with its address in a placeholder, such as {env.CVS_DATABASE} or {file./run/secrets/database}"

// validate refuses what is wrong on every machine. Its errors show no value: any may be the address of a
// database, with its password, in the wrong place.
func (p *LedgerPlace) validate() error {
	switch {
	case p.Store == ledgerOff && p.Path == "" && p.DSN == "":
		return nil
	case p.Store == ledgerOff:
		return errOffKeepsNothing
	case p.Store == "" || p.Store == ledgerFile:
		if p.DSN != "" {
			return errors.New("dsn is for a database: set store to postgres or mysql, or remove dsn")
		}
		if p.Path == "" {
			return nil
		}
		return unlessPlaceholder(validateLedgerPath)(p.Path)
	case databases[p.Store] == nil:
		if name := otherNames[strings.ToLower(p.Store)]; name != "" {
			return fmt.Errorf("store must be %s, not %q", name, p.Store)
		}
		return errors.New("store must be file, postgres, mysql or off")
	case p.Path != "":
		return fmt.Errorf("path is for a file: remove it, or remove store %s and dsn", p.Store)
	case p.DSN == "":
		return fmt.Errorf("%s needs a dsn: name the database %s", p.Store, placeholderOfDSN)
	}
	return validateSecret("dsn")(p.DSN)
}

var errOffKeepsNothing = errors.New("off keeps nothing: remove path, dsn, keep, on_down and from, or remove off")

func validateLedgerPath(path string) error {
	switch {
	case !filepath.IsAbs(path) && strings.ContainsAny(path, ":@="):
		return errAddressAsPath
	case !filepath.IsAbs(path):
		return errors.New("the path must be absolute, such as /var/lib/shop/cvs.db: a relative one would mean another file when Caddy is started in another directory")
	case os.IsPathSeparator(path[len(path)-1]):
		return errors.New("the path must be that of a file, such as /var/lib/shop/cvs.db, not of a directory")
	}
	return nil
}

// errAddressAsPath is the error for the address of a database in the place of a path.
var errAddressAsPath = errors.New("this is not the path of a file: write postgres <dsn> or mysql <dsn> for a database, " + placeholderOfDSN)

// set sets the place to what a Caddyfile has behind an option's name. The words may have secrets, so the
// errors show none of them but those that are known.
func (p *LedgerPlace) set(option string, words []string) error {
	place := words[0]
	name := otherNames[strings.ToLower(place)]
	switch {
	case name != "" && name != place:
		return fmt.Errorf("%s %s: write %s %s <dsn>", option, place, option, name)
	case name != "":
		p.Store = name
		if len(words) > 2 {
			return fmt.Errorf("%s %s takes one word: the address of the database in a placeholder, such as {env.CVS_DATABASE}; what {$NAME} stands for is split at its spaces", option, name)
		}
		p.DSN = strings.Join(words[1:], "")
		return nil
	case len(words) > 1:
		return fmt.Errorf("%s takes one place: <path>, postgres <dsn> or mysql <dsn>", option)
	case place == ledgerOff:
		p.Store = ledgerOff
	case strings.ContainsAny(place, "@=") && !filepath.IsAbs(place), strings.Contains(place, "://"):
		return errAddressAsPath
	case !strings.ContainsAny(place, `/\{`): // most likely a mistyped word
		return fmt.Errorf("%s takes a path with a slash, such as /var/lib/shop/cvs.db, postgres <dsn>, mysql <dsn> or off", option)
	default:
		p.Path = place
	}
	return nil
}

// knownPlace is a LedgerPlace whose placeholders are expanded. Nothing in it can be printed that shows the
// address of a database.
type knownPlace struct {
	store    string
	key      string // the same for the same place
	path     string // of the file
	implied  bool   // it is the default, whose directory is made
	database *sqlstore.Database
	parts    *regexp.Regexp // those of the database's address
}

// name is what an operator calls the place.
func (p *knownPlace) name() string {
	if p.store == ledgerFile {
		return p.path
	}
	return p.store
}

// resolve expands the placeholders, once. It creates nothing and connects to nothing.
func (p *LedgerPlace) resolve() (*knownPlace, error) {
	parse := databases[p.Store]
	if parse == nil {
		path, err := p.file()
		return &knownPlace{store: ledgerFile, key: path, path: path, implied: p.Path == ""}, err
	}
	dsn, err := resolveSecret("dsn", p.DSN)
	if err != nil {
		return nil, err
	}
	database, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("dsn: what %s stands for: %w", p.DSN, err)
	}
	return &knownPlace{store: p.Store, key: fmt.Sprintf("%s %x", p.Store, sha256.Sum256([]byte(dsn))), database: database, parts: partsPattern(p.Store, dsn)}, nil
}

// file returns the absolute path of the ledger's file.
func (p *LedgerPlace) file() (string, error) {
	if p.Path == "" {
		return filepath.Abs(filepath.Join(caddy.AppDataDir(), "cvs", "ledger.db"))
	}
	path, err := caddy.NewReplacer().ReplaceOrErr(p.Path, true, true)
	if err != nil {
		return "", fmt.Errorf("path: %w", err)
	}
	if err := validateLedgerPath(path); err != nil {
		return "", err
	}
	return filepath.Clean(path), nil
}

// validateLedgerFile refuses a path at which no file can be. The file itself may be missing.
func validateLedgerFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory: name a file in it, such as %s", path, filepath.Join(path, "ledger.db"))
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file: name one, or a path where there is none yet", path)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	directory := filepath.Dir(path)
	if _, err := os.Stat(directory); err != nil {
		return fmt.Errorf("the directory of the file is missing: create it, for the user that runs Caddy: %w", err)
	}
	return nil
}
