# Looks for what a command of a build must not see. Prints `probe NAME found` or `probe NAME clear` for each probe.
#
# Arguments: a directory of the machine, the name of an abstract socket, the directory of Docker's configuration.
# The secrets are known by their form only, so that this text is none of them.
use strict;
use Socket;
my ($site, $socket, $config) = @ARGV;
my $x86 = `uname -m` =~ /x86_64/;
my %found;

sub look {
    my ($probe, $text) = @_;
    $found{$probe} = 1 if $text =~ /quince-\w+-\d{4}|correct\shorse\sbattery\sstaple/;
}

sub slurp {
    my ($path) = @_;
    return '' unless -f $path && open my $file, '<:raw', $path;
    my $text = '';
    read $file, $text, 1 << 20;
    return $text;
}

my @processes = grep { $_ != $$ } map { m{(\d+)$} } glob '/proc/[0-9]*';
# The builder is known by its command line. Where it is not seen, whatever is seen may be hiding something.
my @builders = grep { slurp("/proc/$_/cmdline") =~ /quince-cmdline/ } @processes;
my @suspects = @builders ? @builders : @processes;

for my $process (@suspects, 'self') {
    look('environ', slurp("/proc/$process/environ"));
    look('root', slurp("/proc/$process/root$site/on-the-machine"));
    look('cwd', slurp("/proc/$process/cwd/on-the-machine"));
    look('descriptor', slurp($_)) for grep { -f } glob "/proc/$process/fd/*";
}
look('cmdline', slurp("/proc/$_/cmdline")) for @suspects;

for my $process (@suspects) {
    next unless open(my $maps, '<', "/proc/$process/maps") && open(my $memory, '<:raw', "/proc/$process/mem");
    while (<$maps>) {
        next unless /^([0-9a-f]+)-([0-9a-f]+) rw/;
        my ($start, $left) = (hex $1, hex($2) - hex($1));
        next if $left > 1 << 28;
        while ($left > 0) {
            last unless sysseek $memory, $start, 0;
            last unless my $length = sysread $memory, my $text, $left < 1 << 20 ? $left : 1 << 20;
            look('memory', $text);
            ($start, $left) = ($start + $length, $left - $length);
        }
    }
}

# Where no builder is seen, its number is guessed: every process that is there without being seen counts.
my %seen = map { $_ => 1 } @processes, $$, getppid;
my @numbers = @builders ? @builders : grep { !$seen{$_} && !-d "/proc/$_" } 1 .. 99_999;
for my $number (@numbers) {
    $found{kill} = 1 if kill(0, $number) || $!{EPERM};
    # ATTACH and DETACH
    if (syscall($x86 ? 101 : 117, 16, $number, 0, 0) == 0) {
        $found{ptrace} = 1;
        waitpid $number, 0;
        syscall($x86 ? 101 : 117, 17, $number, 0, 0);
    }
}

my $connection;
if (socket($connection, PF_UNIX, SOCK_STREAM, 0) && connect($connection, pack_sockaddr_un("\0$socket"))) {
    sysread $connection, my $text, 4096;
    look('socket', $text);
}

look('config', slurp("$_/config.json")) for $config, '/root/.docker', "$ENV{HOME}/.docker", '/kaniko/.docker';
$found{store} = 1 if slurp("$site/store/oci-layout") =~ /imageLayoutVersion/;

for my $probe (qw(environ cmdline memory descriptor root cwd ptrace kill socket config store)) {
    printf "probe %s %s\n", $probe, $found{$probe} ? 'found' : 'clear';
}
