"`python -m bike_nb`: the command line of bike_nb.cli."
from bike_nb.cli import main

if __name__ == "__main__":
    main()
