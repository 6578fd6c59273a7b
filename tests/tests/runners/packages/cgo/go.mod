module campaign

go 1.21
