# soak.gnuplot FIGURES PICTURE: draws what `soak` wrote, as `make soak` does
set terminal svg size 1000,450 background "white"
set output ARG2
set xlabel "minutes"
set ylabel "MiB"
set yrange [0:*]
set grid
set key outside
plot ARG1 every ::1 using ($1 / 60):($2 / 1024) with lines title "resident", \
     ARG1 every ::1 using ($1 / 60):($3 / 1024) with lines title "maps", \
     ARG1 every ::1 using ($1 / 60):($4 / 1024) with lines title "SQLite"
