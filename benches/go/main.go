// A small server. What is compiled is mostly the standard library: HTTP, TLS, JSON, templates.
package main

import (
	"encoding/json"
	"flag"
	"html/template"
	"log"
	"net/http"
	"time"
)

var page = template.Must(template.New("page").Parse(`<p>Hello, {{.Name}}. It is {{.Now}}.</p>`))

type greeting struct {
	Name string    `json:"name"`
	Now  time.Time `json:"now"`
}

func main() {
	address := flag.String("address", ":8080", "address to listen at")
	flag.Parse()
	http.HandleFunc("/{name}", func(writer http.ResponseWriter, request *http.Request) {
		hello := greeting{Name: request.PathValue("name"), Now: time.Now()}
		var err error
		if request.URL.Query().Has("json") {
			err = json.NewEncoder(writer).Encode(hello)
		} else {
			err = page.Execute(writer, hello)
		}
		if err != nil {
			log.Print(err)
		}
	})
	log.Fatal(http.ListenAndServe(*address, nil))
}
