package main

/*
#include <math.h>
#include <unistd.h>
#cgo LDFLAGS: -lm
static double root(double x) { return sqrt(x); }
*/
import "C"

import (
	"fmt"
	"net/http"
	"os/user"
)

func main() {
	who, err := user.LookupId(fmt.Sprint(C.getuid()))
	fmt.Println(C.root(2), http.StatusText(200), who, err)
}
